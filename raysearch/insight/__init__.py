"""What can be learned of images without training a network: wrong labels, copies, outliers, shortcuts, neighbours."""
