from __future__ import annotations
import heapq
from dataclasses import dataclass
W={"S":1,"M":2,"L":4}
@dataclass(frozen=True)
class Node: ref:str; milestone:str; issue:object; needs:tuple; position:int; remaining:int
class Plan:
    def __init__(s): s.nodes={}; s.order=(); s.dependents={}
    def waves(s,m):
        d={}
        for r in s.order:
            if s.nodes[r].milestone==m: d[r]=1+max([d.get(n,0) for n in s.nodes[r].needs] or [0])
        return [[r for r in d if d[r]==k] for k in range(1,max(d.values(),default=0)+1)]
    def critical_path(s,m):
        rs=[r for r in s.order if s.nodes[r].milestone==m]
        if not rs: return ()
        r=max(rs,key=lambda r:s.nodes[r].remaining); out=[r]
        while s.dependents.get(r): r=max(s.dependents[r],key=lambda r:s.nodes[r].remaining); out.append(r)
        return tuple(out)
def compile_plan(ms,files):
    p=Plan(); raw={}
    for m in ms.values():
        for k,i in enumerate(m.issues): raw[f"{m.id}/{i.id}"]=(m.id,i,tuple(n if "/" in n else f"{m.id}/{n}" for n in i.needs),k)
    dep={r:[] for r in raw}
    for r,(m,i,ns,k) in raw.items():
        for n in ns: dep[n].append(r)
    rem={}
    def calc(r):
        if r not in rem: rem[r]=W[raw[r][1].size]+max([calc(x) for x in dep[r]] or [0])
        return rem[r]
    for r in raw: calc(r)
    mo={m:n for n,m in enumerate(ms)}
    p.nodes={r:Node(r,m,i,ns,k,rem[r]) for r,(m,i,ns,k) in raw.items()}; p.dependents={r:tuple(d) for r,d in dep.items()}
    left={r:len(n.needs) for r,n in p.nodes.items()}; key=lambda r:(p.nodes[r].issue.priority,-rem[r],mo[p.nodes[r].milestone],p.nodes[r].position,r)
    h=[key(r) for r in left if not left[r]]; heapq.heapify(h); out=[]
    while h:
        r=heapq.heappop(h)[-1]; out.append(r)
        for d in dep[r]:
            left[d]-=1
            if not left[d]: heapq.heappush(h,key(d))
    p.order=tuple(out); return p
