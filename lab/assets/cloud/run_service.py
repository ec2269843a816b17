"""Runs one job of Keystone or Neutron. usage: run_service.py JOB CONFIG_FOLDER [ADDRESS PORT | ARGUMENTS]

JOB is `keystone` or `neutron` (serve the API on ADDRESS and PORT) or `keystone-manage` or `neutron-db-manage` (run that program).
The programs' own scripts are not used, because they hold the path at which the environment was built, not the one it is used at.
"""

import json
import os
import sys
import threading
import time

job, folder, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
os.environ.update(
    OS_KEYSTONE_CONFIG_DIR=folder, OS_NEUTRON_CONFIG_DIR=folder, OS_NEUTRON_CONFIG_FILES="neutron.conf"
)
WRITES = ("POST", "PUT", "PATCH", "DELETE")


def notify(application, path):
    """Writes the time into the file after each successful write, as Neutron sends its agents a message after each: the gateway then looks at once."""

    def wrapped(environ, start_response):
        status = []

        def start(line, headers, exc_info=None):
            status.append(line)
            return start_response(line, headers, exc_info)

        reply = application(environ, start)
        if environ["REQUEST_METHOD"] in WRITES and status and status[-1].startswith("2"):
            # Readers see a whole number, whichever thread writes.
            new = f"{path}.{threading.get_ident()}"
            with open(new, "w") as notice:
                notice.write(str(time.time_ns()))
            os.replace(new, path)
        return reply

    return wrapped


def report_statuses(path):
    """Sets the statuses that the gateway has written to the file.

    The API has no call for this: a real L3 agent reports the status of a floating IP by RPC, which ends in this method of the plugin.
    """
    from neutron_lib import context, exceptions
    from neutron_lib.plugins import constants, directory

    done = None
    while True:
        time.sleep(0.1)
        try:
            written = os.stat(path).st_mtime_ns
            if written == done:
                continue
            with open(path) as file:
                statuses = json.load(file)
            plugin = directory.get_plugin(constants.L3)
            for floating_ip, status in statuses.items():
                try:
                    plugin.update_floatingip_status(context.get_admin_context(), floating_ip, status)
                except exceptions.NotFound:
                    pass
            done = written
        except FileNotFoundError:
            pass
        except Exception as error:
            print("status report:", repr(error), file=sys.stderr, flush=True)
            time.sleep(1)


def serve(address, port, application):
    import waitress

    waitress.serve(application, host=address, port=int(port), threads=8, ident=None)


if job == "keystone-manage":
    from keystone.cmd.manage import main

    sys.argv = [job, "--config-file", folder + "/keystone.conf", *arguments]
    main()
elif job == "neutron-db-manage":
    from neutron.db.migration.cli import main

    sys.argv = [job, "--config-file", folder + "/neutron.conf", *arguments]
    sys.exit(main())
else:
    # Neutron parses sys.argv as its own command line.
    sys.argv = [job]
    if job == "keystone":
        from keystone.common.rbac_enforcer.enforcer import RBACEnforcer
        from keystone.wsgi.api import application

        # Else the first request does it, and one that comes in that moment in another thread meets half the rules: it is
        # told that it may not.
        RBACEnforcer()._enforcer.load_rules()
    else:
        from neutron import policy
        from neutron.wsgi.api import application

        # Likewise; Neutron says then that what is asked for does not exist.
        policy.init()
        application = notify(application, folder + "/changed")
        threading.Thread(target=report_statuses, args=(folder + "/statuses.json",), daemon=True).start()
    serve(*arguments, application)
