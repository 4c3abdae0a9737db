"""The queue, the worker's folders, and what watches both."""
