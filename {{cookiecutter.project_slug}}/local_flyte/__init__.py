"""A small Flyte for development and tests. It is never deployed.

It belongs to the template that generated this project, and is tested there. Don't edit it: updates
of the project replace this folder.

It answers the SDK over the wire like a Flyte cluster, authenticates people, and executes tasks. For
a service that it lacks it returns UNIMPLEMENTED with the method's name.

``people.py`` has everybody's credentials, ``access.py`` checks them, and ``sign_in.py`` has the
pages where somebody signs in to the app of ``make dev``.
"""

__version__ = "3.0.0"

from connectrpc.code import Code

from .access import ReceivedCall
from .people import PEOPLE, Mode, Person
from .server import LocalFlyte

__all__ = ["PEOPLE", "Code", "LocalFlyte", "Mode", "Person", "ReceivedCall"]
