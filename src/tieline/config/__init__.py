"""What the user decides: ``schema`` says what can be set, ``load`` reads YAML and the environment."""
