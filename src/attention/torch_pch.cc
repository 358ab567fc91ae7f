// Exists so that the precompiled header of the torch folders has a target to belong to.
