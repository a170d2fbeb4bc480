from __future__ import annotations
from dataclasses import dataclass, field
@dataclass(frozen=True)
class Agent:
    name:str; command:tuple=(); builtin:str|None=None; env:tuple=(); timeout:float|None=None; idle:float|None=None; deterministic:bool=False
    def argv(self, values): return tuple(w.format(**values) for w in self.command)
@dataclass(frozen=True)
class Limits:
    attempts:int=3; timeout_s:float=3600; idle_s:float=900; check_timeout_s:float=1800; output_cap_bytes:int=64*2**20; parallel:int=1; retention_days:int=30; disk_floor_bytes:int=2**30; ignore:tuple=("__pycache__/",".pytest_cache/")
@dataclass(frozen=True)
class Policy:
    agents:dict; checks:dict; limits:Limits
    def agent_for(self,i): return self.agents[i.agent or ("script" if "run" in i.options else "patch")]
    def checks_for(self,i): return [self.checks[c] for c in (i.checks or ())]
def policy_faults(m,f,p): return []
