"""Agent frameworks as clients, each in an environment of its own (`make agents`)."""
