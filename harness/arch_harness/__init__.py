"""Datasets through a served encoder to embeddings, probes and one report."""

import os

# With its fork handlers, gRPC now and then kills the process that Ray forks, before it can become one of Ray's servers.
# Nothing here uses gRPC in a forked child. Read when gRPC is first imported, so it is set before anything else.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
