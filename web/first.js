// Asks for the first rows of the list while the script that shows them is still on its way: who asks for the same gets this answer.
import {jobsPath} from './lib/api.js';
import {FIELDS, LIMIT} from './pages/runs/list.js';

if (/^#?\/?$/.test(location.hash)) // the list as it usually is
        document.head.append(Object.assign(document.createElement('link'), {rel: 'preload', as: 'fetch', crossOrigin: 'anonymous', href: jobsPath({fields: FIELDS, limit: LIMIT})}));
