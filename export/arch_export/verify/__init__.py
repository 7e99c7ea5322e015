"""The exported graph held against the original."""
