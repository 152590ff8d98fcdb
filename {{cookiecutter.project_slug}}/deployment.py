"""What ``flyte deploy deployment.py app_env`` puts on a Flyte cluster: the app and its tasks."""

import flyte
import flyte.app
from flyte.app.extras import FastAPIAppEnvironment

from app.image import PYPROJECT, image
from app.main import app
from app.tasks import task_env

app_env = FastAPIAppEnvironment(
    name="{{ cookiecutter.project_slug }}",
    description=app.description,
    app=app,
    image=image,
    depends_on=[task_env],
    # The bundle holds the Python modules that are imported here; every other file the app reads
    # has to be named.
    include=(str(PYPROJECT),),
    resources=flyte.Resources(cpu=1, memory="1Gi"),
    scaling=flyte.app.Scaling(
        replicas=(0, 1),  # lowest and highest; (0, 1) sleeps while nobody calls
        metric=flyte.app.Scaling.Concurrency(val=50),
    ),
    # Flyte's own gate in front of the app. The app checks again and passes the caller on.
    requires_auth=True,
)
