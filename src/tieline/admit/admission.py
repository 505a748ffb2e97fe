from msgspec import Struct
class Ask(Struct, kw_only=True):
    secret: object=None; model: str=""; operation: str=""; input_tokens: int=0; output_tokens: object=None; options: object=None
class Permit:
    key_id=None; project=None; rules=(); budgeted=False
    def settle(self, record): pass
class Admission:
    def __init__(self, db, config, in_process=False): pass
    def admit(self, ask): return Permit()
    async def start(self): pass
    async def stop(self): pass
    def check_exposure(self): pass
    def reload(self,c): pass
    def identify(self,s): return None
