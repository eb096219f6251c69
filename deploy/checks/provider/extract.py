"""Recovers what the stand-in provider serves from the npm package @cdktf/provider-aws (see NOTICE.md).

Recovered are names, block or attribute, nesting, required, optional or computed, and primitive types; of optional attributes only
partly whether they are computed too. Run by hand, once for a version of the provider.
"""

import gzip
import json
import os
import pathlib
import re
import sys

LIB = sys.argv[1] if len(sys.argv) > 1 else "package/lib"
# The services that a pipeline like this one could use: the rest of AWS would make the schema forty times as large.
SERVICES = (
    "cloudwatch",
    "iam",
    "kms",
    "lambda",
    "s3",
    "scheduler",
    "secretsmanager",
    "sfn",
    "sns",
    "sqs",
    "ssm_parameter",
)
SINGLE = ("caller_identity", "partition", "region", "regions")
ATTR = re.compile(
    r'^\s+(\w+): \{\n\s+value: (.*?),\n\s+isBlock: (true|false),\n\s+type: "(\w+)",\n\s+storageClassType: "(\w+)",\n\s+\},',
    re.M,
)


def snake(c):
    return re.sub(r"(?<!^)([A-Z])", r"_\1", c).lower()


def camel(s):
    p = s.split("_")
    return p[0] + "".join(x[:1].upper() + x[1:] for x in p[1:])


def ctype(kind, st):
    prim = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
    if kind == "simple":
        return prim.get(st, "dynamic")
    if kind in ("list", "set"):
        base = st[:-4] if st.endswith("List") else st
        return [kind, prim[base]] if base in prim else "dynamic"
    if kind == "map":
        base = st[:-3] if st.endswith("Map") else st
        return ["map", prim[base]] if base in prim and prim[base] != "dynamic" else ["map", "string"]
    return "dynamic"


def load(d):
    js = pathlib.Path(f"{LIB}/{d}/index.js").read_text()
    ts = pathlib.Path(f"{LIB}/{d}/index.d.ts").read_text()
    for extra in sorted(os.listdir(f"{LIB}/{d}")):
        m = re.match(r"structs?\d*\.(js|d\.ts)$", extra)
        if m:
            t = pathlib.Path(f"{LIB}/{d}/{extra}").read_text()
            if extra.endswith(".js"):
                js += "\n" + t
            else:
                ts += "\n" + t
    ifs = {}
    for m in re.finditer(r"export interface (\w+)(?: extends [\w.]+)? \{\n(.*?)\n\}", ts, re.S):
        ifs[m[1]] = {p[0]: (p[1] == "", p[2]) for p in re.findall(r"readonly (\w+)(\??): ([^;]+);", m[2])}
    fns = {}
    for m in re.finditer(r"function (\w+)ToHclTerraform\(struct\) \{(.*?)\n\}", js, re.S):
        fns[m[1]] = m[2]
    return js, ts, ifs, fns


def block(body, iface, ifs, fns, seen=()):
    attrs, blocks = {}, {}
    props = ifs.get(iface, {})
    for n, val, isb, kind, st in ATTR.findall(body):
        req, tstype = props.get(camel(n), (None, None))
        if tstype is None:
            for k in props:
                if k.lower() == n.replace("_", "").lower():
                    req, tstype = props[k]
        req = bool(req)
        if isb == "true":
            st if kind == "struct" else (st[:-4] if st.endswith("List") else st[:-3] if st.endswith("Map") else st)
            fm = re.search(r"(\w+)ToHclTerraform", val.replace("listMapperHcl(", ""))
            sub = fns.get(fm[1]) if fm else None
            nested = block(sub, fm[1][0].upper() + fm[1][1:], ifs, fns, (*seen, n)) if sub else {"attributes": {}, "block_types": {}}
            single = tstype is not None and "[]" not in tstype and "Resolvable" not in tstype
            nest = "single" if kind == "struct" else kind
            blocks[n] = {
                "nesting": nest,
                "min": 1 if req else 0,
                "max": 1 if (single and nest != "single") else 0,
                "block": nested,
            }
        else:
            attrs[n] = {"type": ctype(kind, st), "required": req, "optional": not req, "computed": False}
    return {"attributes": attrs, "block_types": blocks}


def resource(t, data=False):
    d = ("data-" if data else "") + t.replace("_", "-")
    if not os.path.isdir(f"{LIB}/{d}"):
        return None
    js, ts, ifs, fns = load(d)
    main = re.search(r"export interface (\w+Config) extends cdktf\.TerraformMetaArguments", ts)[1]
    body = re.search(r"synthesizeHclAttributes\(\) \{(.*?)\n    \}", js, re.S)[1]
    b = block(body, main, ifs, fns)
    mainjs = js[js.index("extends cdktf.Terraform" + ("DataSource" if data else "Resource")) :]
    for m in re.finditer(r"// (\w+) - computed: (\w+), optional: (\w+), required: (\w+)", mainjs):
        n, c = m[1], m[2] == "true"
        if n in b["block_types"]:
            continue
        if n in b["attributes"]:
            b["attributes"][n]["computed"] = c
            continue
        tm = re.search(rf"// {n} - computed[^\n]*\n\s+get \w+\(\) \{{\n\s+return ([^\n;]+)", mainjs)
        ty = "dynamic"
        if tm:
            g = tm[1]
            ty = (
                "string"
                if "getStringAttribute" in g
                else "number"
                if "getNumberAttribute" in g
                else "bool"
                if "getBooleanAttribute" in g
                else ["list", "string"]
                if "getListAttribute" in g
                else "dynamic"
            )
            if ty == "dynamic" and "StringMap" in g:
                ty = ["map", "string"]
        if n == "tags_all":
            ty = ["map", "string"]
        b["attributes"][n] = {"type": ty, "required": False, "optional": False, "computed": True}
    b["attributes"].setdefault("id", {"type": "string", "required": False, "optional": False, "computed": True})
    # cdktf drops computed-only flags on id/optional+computed; id is always optional+computed in SDKv2
    b["attributes"]["id"].update(required=False, optional=True, computed=True)
    return b


def provider():
    d = "provider"
    js, ts, ifs, fns = load(d)
    main = re.search(r"export interface (AwsProviderConfig)", ts)[1]
    body = re.search(r"synthesizeHclAttributes\(\) \{(.*?)\n    \}", js, re.S)[1]
    b = block(body, main, ifs, fns)
    b["attributes"].pop("alias", None)
    return b


def wanted(name):
    """Whether the schema keeps a resource or data source of this name, without `aws_`."""
    return name in SINGLE or any(name == s or name.startswith(s + "_") or (name.startswith(s) and s == "ssm_parameter") for s in SERVICES)


def main():
    """Writes the schema to the file of the second argument."""
    out, missed = {"provider": provider(), "resources": {}, "data": {}}, []
    for folder in sorted(os.listdir(LIB)):
        data = folder.startswith("data-aws-")
        name = folder.removeprefix("data-aws-").replace("-", "_")
        if folder == "provider" or not os.path.isdir(f"{LIB}/{folder}") or not wanted(name):
            continue
        try:
            kind = out["data"] if data else out["resources"]
            kind[f"aws_{name}"] = resource(("aws-" if data else "") + name.replace("_", "-"), data)
        except Exception as error:
            missed.append((folder, repr(error)[:80]))
    with gzip.GzipFile(sys.argv[2], "wb", mtime=0) as file:
        file.write(json.dumps(out, separators=(",", ":"), sort_keys=True).encode())
    print(len(out["resources"]), "resources,", len(out["data"]), "data sources, missed:", missed)


if __name__ == "__main__":
    main()
