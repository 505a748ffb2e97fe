from tests.services import postgres, redis_server  # noqa: F401
