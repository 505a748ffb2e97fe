class TokenSource:
    def __init__(self, t): pass
