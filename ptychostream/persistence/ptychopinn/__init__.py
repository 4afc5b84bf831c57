"""The file formats of PtychoPINN's TensorFlow package: Keras archives and pickled settings."""
