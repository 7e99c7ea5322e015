"""What is wrong with results: what files, embeddings and answers look like, and the rules that judge it."""
