"""Samples: questions about pictures, read from manifests, benchmarks and the bundled scenes."""
