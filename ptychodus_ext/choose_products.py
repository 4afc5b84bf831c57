"""The dialog that asks which products a network is trained on."""

from collections.abc import Sequence

from PyQt5.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QLabel,
    QListWidget,
    QVBoxLayout,
    QWidget,
)


def choose_products(parent: QWidget, names: Sequence[str], chosen: int) -> list[int]:
    """Ask for products, one of which is chosen at first; returns the rows of those chosen."""
    dialog = QDialog(parent)
    dialog.setWindowTitle("Train on Several Products")
    products = QListWidget()
    products.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
    products.addItems(list(names))
    products.setCurrentRow(chosen)
    buttons = QDialogButtonBox()
    for button in (QDialogButtonBox.StandardButton.Ok, QDialogButtonBox.StandardButton.Cancel):
        buttons.addButton(button)
    buttons.accepted.connect(dialog.accept)
    buttons.rejected.connect(dialog.reject)
    layout = QVBoxLayout()
    layout.addWidget(QLabel("Choose products with patterns of the same size (Ctrl or Shift):"))
    layout.addWidget(products)
    layout.addWidget(buttons)
    dialog.setLayout(layout)
    if dialog.exec() != QDialog.DialogCode.Accepted:
        return []
    return sorted(products.row(item) for item in products.selectedItems())
