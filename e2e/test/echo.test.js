// What goes over the wire comes back as it was: binary, Unicode, several
// arguments, large and empty ones, also while the transport is upgraded.

import { echoes, echoesWhileUpgrading, flags } from '../lib/echo.js';
import { scenario } from '../lib/scenario.js';

scenario('echo', echoes, { flags });
scenario('nothing is lost or reordered by the upgrade', echoesWhileUpgrading, { flags });
