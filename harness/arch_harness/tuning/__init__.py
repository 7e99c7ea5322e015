"""The fastest way to serve an encoder within what is promised and allowed: the space, the search, the page."""
