"""COCO's class names as the two kinds of detector count them."""

from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

UNUSED = "N/A"
# torchvision: 91 numbers with gaps, 0 is the background.
TORCHVISION = tuple(MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
# detectron2: the 80 names in a row; the background comes last and has no name.
CONTIGUOUS = tuple(name for name in TORCHVISION[1:] if name != UNUSED)


def names_for(numbers: int) -> tuple[str, ...]:
    """Names of a network with so many class numbers (background, 0, included) whose file does not name them."""
    if numbers == len(TORCHVISION):
        return TORCHVISION[1:]
    return tuple(f"class-{number}" for number in range(1, numbers))
