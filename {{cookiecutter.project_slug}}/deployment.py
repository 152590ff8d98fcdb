"""What ``flyte deploy deployment.py app_env`` puts on a Flyte cluster: the app and its tasks."""

import flyte
import flyte.app
from flyte.app.extras import FastAPIAppEnvironment

from {{ cookiecutter.__package_name }}.app import app
from {{ cookiecutter.__package_name }}.image import PYPROJECT, image
from {{ cookiecutter.__package_name }}.tasks import task_env

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
        replicas=({{ cookiecutter.__replicas_min }}, {{ cookiecutter.__replicas_max }}),
        metric=flyte.app.Scaling.Concurrency(val=50),
    ),
    # Flyte's own gate in front of the app. The app checks again and passes the caller on.
    requires_auth=True,
)
