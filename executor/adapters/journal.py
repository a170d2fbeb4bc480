from __future__ import annotations
import json, os, threading
from executor.core.event import Event
class Journal:
    @classmethod
    def open(cls, folder, *, run, now, boot=None):
        self=cls(); folder.mkdir(parents=True,exist_ok=True); self.events=read(folder); self.warnings=[]; self.run=run; self.now=now
        self.fd=os.open(folder/"journal.000001.jsonl",os.O_WRONLY|os.O_APPEND|os.O_CREAT,0o600); self.lock=threading.Lock(); return self
    def append(self, kind, key="", **data):
        with self.lock:
            e=Event(len(self.events)+1,self.now(),"b",self.run,kind,key,data)
            os.write(self.fd,(json.dumps([e.number,e.at,e.run,kind,key,data])+"\n").encode()); os.fsync(self.fd); self.events.append(e); return e
    def close(self): os.close(self.fd)
def read(folder):
    try: raw=(folder/"journal.000001.jsonl").read_text()
    except OSError: return []
    out=[]
    for l in raw[:raw.rfind("\n")+1].splitlines():
        n,at,run,k,key,d=json.loads(l); out.append(Event(n,at,"b",run,k,key,d))
    return out
def stamp(folder):
    try: s=os.stat(folder/"journal.000001.jsonl")
    except OSError: return ""
    return f"{s.st_size} {s.st_mtime_ns} {s.st_ino}"
