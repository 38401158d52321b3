"""Settings made into live objects; the only place that assembles."""
