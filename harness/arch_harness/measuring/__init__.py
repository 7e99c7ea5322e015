"""What is measured on the way: speed, utilisation, the bottleneck, the machine."""
