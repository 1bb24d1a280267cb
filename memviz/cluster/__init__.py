"""The same work on many machines: Ray's workers do the shards of an index, of scores, of a survey of drivers.

A worker is an actor that holds the model once, on a GPU where its node has one, or on as many cores as this process
would compute with. It gets the weights from the object store, and gives its results back through it. **Only this
process writes**, as it does alone: so a job that one machine began a cluster continues, and the other way round; a node
needs no room on its disk and no right to write; and nothing depends on how locks and renames behave over a network.
What nodes must see is the photographs, under the same path.
"""

from memviz.cluster.connect import on_ray

__all__ = ["on_ray"]
