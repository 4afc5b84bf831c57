"""Where files of CXI and NeXus keep each quantity."""

#: Groups in which quantities lie, under the entry: class, and how the name begins.
GROUPS = {
    "data": ("NXdata", "data"),
    "instrument": ("NXinstrument", "instrument"),
    "detector": ("NXdetector", "detector"),
    "beam": ("NXbeam", "beam"),
    "source": ("NXsource", "source"),
    "sample": ("NXsample", "sample"),
    "monochromator": ("NXmonochromator", "monochromator"),
}

#: Where each quantity is looked for, the first that exists counts.
PLACES = {
    "patterns": ("data/data", "detector/data"),
    "translation": (
        "data/translation",
        "sample/geometry_1/translation",
        "sample/geometry/translation",
        "detector/translation",
        "sample/translation",
    ),
    "x": (
        "sample/transformations/x_translation",
        "data/x_set",
        "sample/transformations/translation_x",
        "sample/transformations/sample_x",
        "sample/transformations/x",
        "sample/positioner_x/value",
        "data/x",
        "data/sample_x",
    ),
    "y": (
        "sample/transformations/y_translation",
        "data/y_set",
        "sample/transformations/translation_y",
        "sample/transformations/sample_y",
        "sample/transformations/y",
        "sample/positioner_y/value",
        "data/y",
        "data/sample_y",
    ),
    "energy": (
        "beam/incident_beam_energy",
        "beam/incident_energy",
        "beam/energy",
        "monochromator/energy",
        "detector/detectorSpecific/photon_energy",
    ),
    "source_energy": ("source/energy",),
    "wavelength": (
        "beam/incident_wavelength",
        "beam/wavelength",
        "monochromator/wavelength",
        "source/wavelength",
    ),
    "distance": ("detector/distance", "detector/detector_distance"),
    "pixel": ("detector/x_pixel_size", "detector/detectorSpecific/x_pixel_size"),
    "pixel_y": ("detector/y_pixel_size", "detector/detectorSpecific/y_pixel_size"),
    "saturation": ("detector/saturation_value",),
    "mask": (
        "detector/mask",
        "detector/pixel_mask",
        "detector/detectorSpecific/pixel_mask",
        "data/mask",
        "data/pixel_mask",
    ),
    "probe": (
        "source/illumination",
        "source/probe",
        "detector/probe_guess",
        "beam/probe",
        "beam/illumination",
        "sample/probe",
    ),
}
