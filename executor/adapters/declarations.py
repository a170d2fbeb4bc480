import tomllib,re
from executor.core.declaration import *
class Loaded: pass
def load(folder):
    L=Loaded(); L.milestones={}; L.files={}; L.watched=[]; L.folder=folder
    for f in sorted(folder.glob("*.toml")):
        d=tomllib.loads(f.read_text()); m=d["milestone"]; dd=d.get("defaults",{})
        m.setdefault("branch",f"milestone/{m['id']}-{re.sub('[^a-z0-9]+','-',m['title'].lower()).strip('-')}")
        M=Milestone(**m,phases=d.get("phase",[]),issues=[{**dd,**i} for i in d.get("issue",[])])
        L.milestones[M.id]=M; L.files[M.id]=f"milestones/{f.name}"; L.watched+= [f"milestones/{i.spec}" for i in M.issues if i.spec]
    return L
def spec_text(L,m,i): return i.body if i.body is not None else (L.folder/i.spec).read_text()
