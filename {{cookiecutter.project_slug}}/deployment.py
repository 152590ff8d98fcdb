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
from passthrough.serving import UVICORN
from passthrough.settings import checked

app_env = FastAPIAppEnvironment(
    name="{{ cookiecutter.project_slug }}",
    description=app.description,
    app=app,
    # No port: then the SDK sets the one that the container is told to listen on.
    uvicorn_config=uvicorn.Config(app, port=None, **UVICORN),  # type: ignore[arg-type]
    image=image,
    depends_on=[task_env],
    # The bundle holds the Python modules that are imported here. Any other file that the app reads
    # has to be named: "app/data.csv", say.
    include=tuple(map(str, page.FILES)),
    resources=flyte.Resources(cpu=1, memory="1Gi"),
    scaling=flyte.app.Scaling(
        replicas=(0, 1),  # lowest and highest; (0, 1) sleeps while nobody calls
        metric=flyte.app.Scaling.Concurrency(val=50),
    ),
    # Flyte's own gate in front of the app. The app checks again and passes the caller on.
    requires_auth=True,
    # Settings of the app (app/settings.py); they outrank what Flyte injects.
    env_vars=checked(
        Settings,
        {
            "DO_NOT_TRACK": "1",  # else the Flyte SDK sends usage reports
            # Union injects its address, so nothing is needed there. Open source, behind a proxy with
            # TLS and sign-in: where Flyte is, and the header in which the proxy hands on the caller's
            # token, if the proxy strips a client's own.
            # "FLYTE_ENDPOINT": "dns:///flyte.example.com",
            # "TOKEN_HEADER": "X-Forwarded-Access-Token",
            # Devbox, which knows no callers: everybody acts as nobody.
            # "ALLOW_ANONYMOUS": "true",
            # A certificate authority of your own, in the image: `.with_source_file(Path("ca.pem"),
            # "/etc/ssl/own/")` at the end of app/image.py. The file replaces the system's authorities:
            # it must hold the public ones too if the store of Flyte's code bundles, say, needs them.
            # "SSL_CERT_FILE": "/etc/ssl/own/ca.pem",
        },
    ),
    # Streams end after 300 s otherwise. Seconds; the cluster's own limit counts, 3600 is the most.
    # timeouts=flyte.app.Timeouts(request=600),
    # domain=flyte.app.Domain(subdomain="{{ cookiecutter.project_slug }}"),
    # secrets=flyte.Secret("my-key", as_env_var="MY_KEY"),
)
