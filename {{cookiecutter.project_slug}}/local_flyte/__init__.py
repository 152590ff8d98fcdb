"""A small Flyte to develop and test against: never part of what is deployed.

It belongs to the template this project was made from, where its tests are: updating the project
replaces this folder, so change nothing here.

It answers the SDK over the wire as a Flyte cluster does, tells people apart, and really executes
tasks. What it does not know it refuses with UNIMPLEMENTED, naming the method.
"""

from connectrpc.code import Code

from .door import ReceivedCall
from .people import PEOPLE, Person
from .server import LocalFlyte

__all__ = ["PEOPLE", "Code", "LocalFlyte", "Person", "ReceivedCall"]
