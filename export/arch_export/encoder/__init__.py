"""What is traced: the encoder as one module from waveform to embedding."""
