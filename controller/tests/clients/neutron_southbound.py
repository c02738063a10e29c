"""A client of the southbound database on python-ovs and ovsdbapp, as Neutron's agents are. Works on the database at the
addresses given, prints a line for each step, and goes on when a line comes in: so that the caller can do something in
between."""

import sys

from ovs.db import idl as ovs_idl
from ovsdbapp import event as ovsdb_event
from ovsdbapp.backend.ovs_idl import connection, event, idlutils
from ovsdbapp.schema.ovn_southbound import impl_idl

TABLES = ("Chassis", "Chassis_Private", "Encap", "Port_Binding", "Datapath_Binding", "SB_Global", "FDB", "MAC_Binding")
PATIENCE = 60


class PortUp(event.WaitEvent):
    """A port of that name comes up."""

    event_name = "PortUp"

    def __init__(self, name):
        self.name = name
        super().__init__((self.ROW_UPDATE,), "Port_Binding", None, timeout=PATIENCE)

    def match_fn(self, event, row, old):
        return row.logical_port == self.name and hasattr(old, "up") and row.up == [True]


class Configured(event.WaitEvent):
    """A hypervisor says that it has got so far."""

    event_name = "Configured"

    def __init__(self, name):
        self.name = name
        super().__init__((self.ROW_UPDATE,), "Chassis_Private", None, timeout=PATIENCE)

    def match_fn(self, event, row, old):
        return row.name == self.name and hasattr(old, "nb_cfg") and row.nb_cfg > old.nb_cfg


class Appeared(event.RowEvent):
    """Counts chassis that appear."""

    event_name = "Appeared"

    def __init__(self):
        self.count = 0
        super().__init__((self.ROW_CREATE,), "Chassis", None)

    def run(self, event, row, old):
        self.count += 1


class Idl(ovs_idl.Idl):
    """Tells watchers of every row event."""

    def __init__(self, *args, **kwargs):
        self.handler = ovsdb_event.RowEventHandler()
        super().__init__(*args, **kwargs)

    def notify(self, event, row, updates=None):
        self.handler.notify(event, row, updates)


def step(text):
    print(text, flush=True)


def pause():
    if not sys.stdin.readline():
        sys.exit("the caller is gone")


def refused(command, word):
    try:
        command.execute(check_error=True)
    except Exception as error:  # ovsdbapp raises what it has
        assert "not allowed" in str(error) and word in str(error), error
        return
    sys.exit(f"{command} was not refused")


def main(remotes):
    helper = idlutils.get_schema_helper(remotes, "OVN_Southbound")
    for table in TABLES:
        helper.register_table(table)
    idl = Idl(remotes, helper, leader_only=False)
    appeared, up, configured = Appeared(), PortUp("p0"), Configured("hv1")
    for watched in (appeared, up, configured):
        idl.handler.watch_event(watched)
    api = impl_idl.OvnSbApiIdlImpl(connection.Connection(idl, timeout=30))
    assert api.chassis_list().execute(check_error=True) == []
    step(f"connected {idl._session.reconnect.get_name()}")

    pause()
    assert up.wait(), "p0 came up"
    chassis = api.chassis_list().execute(check_error=True)
    assert [row.name for row in chassis] == ["hv1"], chassis
    assert chassis[0].hostname == "hv1.example", chassis[0].hostname
    assert [encap.ip for encap in chassis[0].encaps] == ["192.0.2.1"]
    found = api.db_find("Port_Binding", ("logical_port", "=", "p0")).execute(check_error=True)
    assert len(found) == 1 and found[0]["chassis"] == chassis[0].uuid, found
    assert found[0]["external_ids"] == {"neutron:port_name": "vm0", "name": "vm0"}, found
    network = api.db_find("Datapath_Binding", ("tunnel_key", "=", 1)).execute(check_error=True)
    assert network[0]["external_ids"]["name2"] == "web", network
    for table in ("Chassis", "Chassis_Private"):
        api.db_set(table, "hv1", ("external_ids", {"neutron:ovn-metadata-id": "a", "neutron:other": "b"})).execute(
            check_error=True
        )
        api.db_remove(table, "hv1", "external_ids", "neutron:other").execute(check_error=True)
        ids = api.db_get(table, "hv1", "external_ids").execute(check_error=True)
        assert ids == {"neutron:ovn-metadata-id": "a"}, ids
    refused(api.lsp_unbind("p0"), "Port_Binding")
    refused(api.chassis_add("hv2", ["geneve"], "192.0.2.2"), "insert operation")
    refused(api.db_set("Chassis", "hv1", ("hostname", "x")), "hostname")
    assert api.db_list("MAC_Binding").execute(check_error=True) == []
    step("worked")

    pause()
    assert configured.wait(), "hv1 got so far"
    step("configured")

    pause()
    later = PortUp("p1")
    idl.handler.watch_event(later)
    step("watching")
    assert later.wait(), "p1 came up"
    api.db_set("Chassis_Private", "hv1", ("external_ids", {"neutron:after": "c"})).execute(check_error=True)
    assert api.db_get("Chassis_Private", "hv1", "external_ids").execute()["neutron:after"] == "c"
    # A resumed client is told what it missed; one that starts over sees every row appear again.
    step(f"seen {appeared.count}")

    pause()
    api.chassis_del("hv1", if_exists=True).execute(check_error=True)
    api.db_destroy("Chassis_Private", "hv1").execute(check_error=True)
    assert api.chassis_list().execute(check_error=True) == []
    step("deleted")


main(sys.argv[1])
