"""Sessions and frames over HTTP."""
