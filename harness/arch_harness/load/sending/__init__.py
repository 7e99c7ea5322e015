"""The processes that send a load test's clips: one here, or several by Ray, here or on other machines."""
