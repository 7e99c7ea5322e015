"""The commands, one file each: options in, the public API called, tables out."""
