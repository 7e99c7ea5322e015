"""`config.pbtxt`, written with Triton's own protobuf message."""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

# 8 clips of 30 s need 1.6 GB for the first convolution's output of a base model; larger batches gain nothing on CPU.
MAX_BATCH_SIZE = 8
# A request waits this long for batch mates; far below one execution of a base encoder, so it costs no latency.
MAX_QUEUE_DELAY_US = 2000
# Most datasets of the ARCH protocol have clips of 5 s.
WARMUP_SECONDS = 5


def model_config(
    name: str, outputs: dict[str, list[int]], sample_rate: int, parameters: dict[str, str]
) -> triton.ModelConfig:
    """Describe an exported encoder to Triton.

    Args:
        name: the model's name and folder.
        outputs: FP32 outputs and their shapes, without the batch.
        sample_rate: in Hz; sets the length of the warm-up clips.
        parameters: facts for the harness, readable through the server.
    """
    config = triton.ModelConfig(name=name, backend="onnxruntime", max_batch_size=MAX_BATCH_SIZE)
    config.input.add(name="waveform", data_type=triton.TYPE_FP32, dims=[-1])
    config.input.add(name="num_samples", data_type=triton.TYPE_INT64, dims=[1])
    for output, shape in outputs.items():
        config.output.add(name=output, data_type=triton.TYPE_FP32, dims=shape)
    config.dynamic_batching.max_queue_delay_microseconds = MAX_QUEUE_DELAY_US
    # One instance: without a count, the ONNX Runtime backend starts two on a CPU, and they fight for its cores.
    config.instance_group.add(count=1, kind=triton.ModelInstanceGroup.KIND_AUTO)
    for batch_size in (1, MAX_BATCH_SIZE):
        warmup = config.model_warmup.add(name=f"batch_{batch_size}", batch_size=batch_size)
        warmup.inputs["waveform"].data_type = triton.TYPE_FP32
        warmup.inputs["waveform"].dims.append(WARMUP_SECONDS * sample_rate)
        warmup.inputs["waveform"].random_data = True
        warmup.inputs["num_samples"].data_type = triton.TYPE_INT64
        warmup.inputs["num_samples"].dims.append(1)
        warmup.inputs["num_samples"].zero_data = True
    for key, value in sorted(parameters.items()):
        config.parameters[key].string_value = value
    return config


def as_text(config: triton.ModelConfig) -> str:
    """The text format of `config.pbtxt`."""
    text: str = text_format.MessageToString(config)
    return text
