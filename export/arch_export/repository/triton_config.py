"""`config.pbtxt`, written with Triton's own protobuf message."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from arch_common import conv_search
from arch_common.session import cuda_settings
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from arch_export.encoder.options import Lengths
from arch_export.encoder.precision import Precision, Target, may_batch
from arch_export.serving import ServingOptions

# A request waits this long for others to share its batch; far below one execution of a base encoder, so it costs no
# latency.
MAX_QUEUE_DELAY_US = 2000
# The clip lengths of the benchmark's 12 datasets, in seconds; most are of 5 s.
CLIP_SECONDS = (3, 5, 10, 30)
USUAL_SECONDS = 5
# TensorRT builds engines for minutes: mount a volume here, so that the next start finds them. ONNX Runtime makes the
# folder, but none above it.
TENSORRT_CACHE = "/var/cache/arch-tensorrt"
THREADS = "intra_op_thread_count"
"""The parameter by which NVIDIA's backend and that of arch serve know the threads of one operator."""
_OF_EXECUTION = (THREADS, "inter_op_thread_count", conv_search.PARAMETER)


@dataclass(frozen=True)
class _Serving:
    """What a target asks for.

    Attributes:
        kind: of the instances.
        instances: how many, on each GPU or on the CPU.
        max_batch_size: in clips.
        warmup: (clips, seconds) of each execution before the model counts as ready.
    """

    kind: int
    instances: int
    max_batch_size: int
    warmup: tuple[tuple[int, int], ...]


_KIND = triton.ModelInstanceGroup
# 8 clips of 30 s need 1.6 GB for the first convolution's output of a base model; larger batches gain nothing on CPU.
_CPU_BATCH = 8
# 32 clips of 10 s fill an H100 for a base encoder in fp16, 16 for a large one. In 4 bytes a value, half as many take as
# much memory: the first convolution of 16 clips of 30 s gives 3.1 GB, and about three times that is there at once.
_GPU_BATCH = 32
_GPU_BATCH_OF_4_BYTES = 16
# Seconds of audio in the largest batch of the warm-up: a full batch of the longest clips is more than small cards hold.
_WARMUP_AUDIO_S = 480
_TENSORRT_BATCH = 16
_SERVING = {
    # Any machine may serve it, so it starts fast on the slowest.
    Target.AUTO: _Serving(_KIND.KIND_AUTO, 1, _CPU_BATCH, ((1, USUAL_SECONDS), (_CPU_BATCH, USUAL_SECONDS))),
    # A new length costs a CPU little: memory is found and kernels are chosen with one clip. A batch of 8 clips of 30 s
    # would keep a large encoder from serving for minutes.
    Target.CPU: _Serving(
        _KIND.KIND_CPU, 1, _CPU_BATCH, (*((1, seconds) for seconds in CLIP_SECONDS), (_CPU_BATCH, USUAL_SECONDS))
    ),
    Target.GPU: _Serving(
        _KIND.KIND_GPU,
        2,  # one takes its batch in and gives answers out while the other computes
        _GPU_BATCH,
        tuple(
            (batch, seconds)
            for batch in (32, 16, 8, 4, 2, 1)
            for seconds in reversed(CLIP_SECONDS)
            if batch * seconds <= _WARMUP_AUDIO_S
        ),
    ),
    # One engine covers the whole profile; building it is the warm-up, and the longest shapes take its memory.
    Target.TENSORRT: _Serving(
        _KIND.KIND_GPU,
        1,
        _TENSORRT_BATCH,
        tuple((batch, seconds) for batch in (1, _TENSORRT_BATCH) for seconds in CLIP_SECONDS),
    ),
}


def model_config(
    name: str,
    outputs: dict[str, list[int]],
    sample_rate: int,
    parameters: dict[str, str],
    precision: Precision = Precision.FP32,
    target: Target = Target.AUTO,
    batched: bool = True,
    options: ServingOptions | None = None,
) -> triton.ModelConfig:
    """Describe an exported encoder to Triton.

    Args:
        name: the model's name and folder.
        outputs: FP32 outputs and their shapes, without the batch.
        sample_rate: in Hz; sets the length of the warm-up clips.
        parameters: facts for the harness, readable through the server.
        precision: of the model.
        target: where it is to be served.
        batched: whether clips may be put into batches.
        options: what of the serving is not left to the target.
    """
    options = options or ServingOptions()
    serving = _SERVING[target]
    most = serving.max_batch_size
    if target is Target.GPU and precision in (Precision.FP32, Precision.TF32):
        most = min(most, _GPU_BATCH_OF_4_BYTES)
    most = (options.max_batch or most) if batched else 1
    config = triton.ModelConfig(name=name, backend="onnxruntime", max_batch_size=most)
    config.input.add(name="waveform", data_type=triton.TYPE_FP32, dims=[-1])
    config.input.add(name="num_samples", data_type=triton.TYPE_INT64, dims=[1])
    for output, shape in outputs.items():
        config.output.add(name=output, data_type=triton.TYPE_FP32, dims=shape)
    config.dynamic_batching.max_queue_delay_microseconds = (
        MAX_QUEUE_DELAY_US if options.queue_delay_us is None else options.queue_delay_us
    )
    # Any policy of the queue, a bound too, makes Triton's core stop prefetching. A request that comes before the one
    # instance waits again does not wake the batcher then, which sleeps out its 500 ms.
    if options.max_queue_size is not None:
        queue = config.dynamic_batching.default_queue_policy
        queue.timeout_action = triton.ModelQueuePolicy.REJECT
        queue.max_queue_size = options.max_queue_size
    # Without a count, the ONNX Runtime backend starts two on a CPU, and they fight for its cores.
    config.instance_group.add(count=options.instances or serving.instances, kind=serving.kind)
    warmed = list(dict.fromkeys((min(batch, most), seconds) for batch, seconds in serving.warmup))
    if target is Target.GPU:
        # It chooses its convolutions and grows its memory for each shape: what the largest was given serves the others.
        warmed.sort(key=lambda shape: shape[0] * shape[1], reverse=True)
    for batch_size, seconds in warmed:
        warmup = config.model_warmup.add(name=f"batch_{batch_size}_of_{seconds}_s", batch_size=batch_size)
        warmup.inputs["waveform"].data_type = triton.TYPE_FP32
        warmup.inputs["waveform"].dims.append(seconds * sample_rate)
        warmup.inputs["waveform"].random_data = True
        warmup.inputs["num_samples"].data_type = triton.TYPE_INT64
        warmup.inputs["num_samples"].dims.append(1)
        warmup.inputs["num_samples"].zero_data = True
    for key, value in sorted((parameters | _execution(target, options)).items()):
        config.parameters[key].string_value = value
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    if target is Target.GPU:
        accelerator = accelerators.add(name="cuda")
        for key, value in cuda_settings(precision).items():
            accelerator.parameters[key] = value
    if target is Target.TENSORRT:
        # The engine is made for full batches of the usual length; the batcher need not wait to reach other sizes.
        config.dynamic_batching.preferred_batch_size.append(most)
        accelerator = accelerators.add(name="tensorrt")
        for key, value in _tensorrt(name, sample_rate, precision, parameters["content_hash"], most).items():
            accelerator.parameters[key] = value
    return config


def _execution(target: Target, options: ServingOptions) -> dict[str, str]:
    """Parameters that the ONNX Runtime backend itself reads."""
    if target is Target.CPU:
        # 0: all cores of the machine that serves, which its one instance has to itself; the backend of arch serve
        # shares them among several.
        return {THREADS: str(options.threads or 0), "inter_op_thread_count": "1"}
    # The documented block of the `cuda` accelerator does not do: the backend overwrites this key of it with its own
    # default.
    search = {conv_search.PARAMETER: conv_search.NUMBERS[options.conv_search or conv_search.USUAL]}
    return search | ({} if options.threads is None else {THREADS: str(options.threads)})


def _tensorrt(name: str, sample_rate: int, precision: Precision, content_hash: str, batch: int) -> dict[str, str]:
    """Settings of the TensorRT execution provider; a new content of the model does not find the old one's engines."""

    def shapes(clips: int, seconds: float) -> str:
        return f"waveform:{clips}x{round(seconds * sample_rate)},num_samples:{clips}x1"

    return {
        "precision_mode": "FP16" if precision is Precision.FP16 else "FP32",
        "trt_layer_norm_fp32_fallback": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": TENSORRT_CACHE,
        "trt_engine_cache_prefix": f"{name}-{content_hash.removeprefix('sha256:')[:12]}",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": TENSORRT_CACHE,
        # Half a second is what the shortest clips of the datasets would be without padding.
        "trt_profile_min_shapes": shapes(1, 0.5),
        "trt_profile_opt_shapes": shapes(batch, USUAL_SECONDS),
        "trt_profile_max_shapes": shapes(batch, max(CLIP_SECONDS)),
    }


def reconfigured(config: triton.ModelConfig, name: str, options: ServingOptions) -> triton.ModelConfig:
    """What an export of the same graph would have written under another name and with these options.

    Args:
        config: that an export wrote.
        name: of the new model.
        options: of the new one; what it leaves to the target is the target's, whatever `config` has.

    Raises:
        KeyError: if `config` lacks a fact.
        ValueError: if one cannot be read.
    """
    facts = {key: value.string_value for key, value in config.parameters.items() if key not in _OF_EXECUTION}
    precision, target = Precision(facts["precision"]), Target(facts["target"])
    # What was exported in batches may be: the effect is told with fewer digits than it was judged by.
    exact, effect = facts["lengths"] == Lengths.EXACT, float(facts["parity_max_batch_effect"])
    batched = config.max_batch_size > 1 or may_batch(precision, exact, effect)
    outputs = {output.name: list(output.dims) for output in config.output}
    return model_config(name, outputs, int(facts["sample_rate"]), facts, precision, target, batched, options)


def read_config(model: Path) -> triton.ModelConfig | None:
    """The `config.pbtxt` of a model's folder; None if there is none that can be read."""
    try:
        return text_format.Parse((model / "config.pbtxt").read_text(encoding="utf-8"), triton.ModelConfig())
    except (OSError, ValueError, text_format.ParseError):
        return None


def read_parameters(model: Path) -> dict[str, str]:
    """The parameters in the `config.pbtxt` of a model's folder; none if it has none that can be read."""
    config = read_config(model)
    return {} if config is None else {key: value.string_value for key, value in config.parameters.items()}


def as_text(config: triton.ModelConfig) -> str:
    """The text format of `config.pbtxt`."""
    text: str = text_format.MessageToString(config)
    return text
