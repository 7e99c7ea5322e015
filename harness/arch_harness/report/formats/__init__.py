"""The formats of a report: terminal, Markdown, HTML."""
