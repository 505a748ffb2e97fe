"""Official SDKs as clients x upstream dialects x features, over real sockets against the simulator."""
