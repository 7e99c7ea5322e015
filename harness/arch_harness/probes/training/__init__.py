"""The trainers of the probes, on CPUs and GPUs."""
