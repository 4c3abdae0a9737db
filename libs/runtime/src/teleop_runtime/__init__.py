"""Code that the servers share: settings, logs, health, metrics, errors as problem+json, database access"""
