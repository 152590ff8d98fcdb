"""A local Flyte server for development and tests. Deployments do not contain this package.

The template that generated this project maintains and tests this folder. Don't edit the folder,
because updates of the project replace it.

The server speaks Flyte's protocol, authenticates users, and executes tasks. If the server
lacks the called service, the call fails with UNIMPLEMENTED, and the error names the method.

``people.py`` defines the users, and finds the caller by the credentials of a call. ``access.py``
authorizes calls. ``sign_in.py`` has the pages where users sign in to the app of ``make dev``.
"""

__version__ = "4.0.0"

from connectrpc.code import Code

from .access import ReceivedCall
from .people import PEOPLE, Mode, Person
from .server import LocalFlyte

__all__ = ["PEOPLE", "Code", "LocalFlyte", "Mode", "Person", "ReceivedCall"]
