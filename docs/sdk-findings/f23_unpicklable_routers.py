"""An app with a router cannot be deployed.

`flyte deploy` pickles the app environment to compute a version, but routers hold locks.

Severity: Medium, since 2.3.9 or older (with FastAPI 0.165).

Patch: `_deploy.py`, where `deployment_plan.envs` is pickled: hash the bundle and the
environment's declared values, not the app object.
"""

import fastapi
import flyte
import harness
from flyte.app.extras import FastAPIAppEnvironment

app = fastapi.FastAPI()
app.include_router(fastapi.APIRouter())
env = FastAPIAppEnvironment(name="a", app=app, image=flyte.Image.from_base("python:3.12"))
open("app.py", "w").close()  # something to bundle
try:
    flyte.deploy(env, dry_run=True, copy_style="all")
except Exception as error:
    refused = str(error)
assert "unpicklable" in refused
