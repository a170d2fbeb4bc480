from __future__ import annotations
from dataclasses import dataclass
from typing import Any, Mapping
@dataclass(frozen=True,slots=True)
class Event:
    number:int; at:str; boot:str; run:str; kind:str; key:str; data:Mapping[str,Any]
