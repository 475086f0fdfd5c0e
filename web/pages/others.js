// All pages but the list of runs, which comes without waiting for them and for what draws curves.
export {ComparePage} from './compare/index.js';
export {DevicesPage} from './devices/index.js';
export {JobPage} from './job/index.js';
export {NewPage} from './new/index.js';
