"""What ``flyte deploy deployment.py app_env`` puts on a Flyte cluster: the app and its tasks."""

import flyte
import flyte.app
import uvicorn
from flyte.app.extras import FastAPIAppEnvironment

from app.image import image
from app.main import app
from app.routers import page
from app.settings import Settings
from app.tasks import task_env
from passthrough import UVICORN, validate_env

app_env = FastAPIAppEnvironment(
    name="{{ cookiecutter.project_slug }}",
    description=app.description,
    app=app,
    # No port: the SDK then sets the one that the container must listen on.
    uvicorn_config=uvicorn.Config(app, port=None, **UVICORN),  # type: ignore[arg-type]
    image=image,
    depends_on=[task_env],
    # The bundle contains the Python modules that are imported here. Any other file that the app
    # reads must be listed, such as "app/data.csv".
    include=page.FILES.paths(),
    resources=flyte.Resources(cpu=1, memory="1Gi"),
    scaling=flyte.app.Scaling(
        replicas=(0, 1),  # minimum and maximum; with 0, an unused app is stopped
        metric=flyte.app.Scaling.Concurrency(val=50),
    ),
    # Flyte's own check in front of the app. The app also requires credentials, and forwards them.
    requires_auth=True,
    # Settings of the app (app/settings.py); they override those that Flyte injects.
    env_vars=validate_env(
        Settings,
        {
            "DO_NOT_TRACK": "1",  # otherwise the Flyte SDK sends usage reports
            # Union injects its address, so it needs nothing here. Open source: Flyte verifies no token,
            # so docs/sign-in.md puts proxies with sign-in in front of the app and of Flyte. Step 3 there
            # lists the settings.
            # Devbox, which has no sign-in: every caller is anonymous.
            # "ALLOW_ANONYMOUS": "true",
            # A private certificate authority: add `.with_source_file(Path("ca.pem"), "/etc/ssl/own/")`
            # at the end of app/image.py. The file replaces the system's authorities, so include the
            # public ones if something else, such as the store of code bundles, needs them.
            # "SSL_CERT_FILE": "/etc/ssl/own/ca.pem",
        },
    ),
    # In seconds. By default streams end after 300 s; the maximum is 3600, or the cluster's own limit.
    # timeouts=flyte.app.Timeouts(request=600),
    # domain=flyte.app.Domain(subdomain="{{ cookiecutter.project_slug }}"),
    # secrets=flyte.Secret("my-key", as_env_var="MY_KEY"),
)
