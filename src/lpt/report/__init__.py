from lpt.system.drawing import import_matplotlib

import_matplotlib()  # before any module of this room does
