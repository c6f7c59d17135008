"""The gRPC processes."""
