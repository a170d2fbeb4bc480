from __future__ import annotations
import re
from typing import Any, Literal
from pydantic import BaseModel, ConfigDict, Field, model_validator
class M(BaseModel): model_config=ConfigDict(frozen=True,extra="forbid",populate_by_name=True)
class Claim(M): text:str
class RunCheck(M): run:str; timeout:float|None=None; name:str|None=None
class FileCheck(M): file:str; contains:str|None=None
class Issue(M):
    id:str; title:str; type:str="feature"; priority:Literal["P0","P1","P2","P3"]="P1"; needs:tuple[str,...]=(); spec:str|None=None; body:str|None=None
    files:tuple[str,...]=(); accept:tuple[RunCheck|FileCheck|Claim,...]=(); agent:str|None=None; options:dict[str,Any]=Field(default_factory=dict,alias="with")
    workflow:str|None=None; checks:tuple[str,...]|None=None; size:str="M"; number:int|None=None; resources:tuple[str,...]=(); allow:tuple[str,...]=(); phase:str|None=None
    @model_validator(mode="before")
    @classmethod
    def c(cls,v):
        v=dict(v); v["accept"]=[{"text":a} if isinstance(a,str) else a for a in v.get("accept",[])]; return v
class Milestone(M):
    id:str; title:str; goal:str|None=None; base:str|None=None; branch:str=""; needs:tuple[str,...]=(); context:tuple[str,...]=(); epic:str|None=None; tag:str|None=None
    forge_milestone:str|None=None; accept:tuple[Any,...]=(); phases:tuple[Any,...]=(); issues:tuple[Issue,...]=()
