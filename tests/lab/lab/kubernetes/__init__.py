"""The lab's Kubernetes: the real programs, built from the Go module proxy, packed as upstream packs them.

programs.py builds, images.py makes container images of what was built, registry.py serves them to the machines;
the Debian packages are ../packages/. What is built stands in ../../kubernetes/.
"""
