"""The commands of `weighbridge`, one module each. They import Beam and Arrow when they are run."""
