"""Which model to deploy, and at what price: one row a model over all datasets, the front, the verdict, its warnings."""
