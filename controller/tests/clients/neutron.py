"""A client on python-ovs and ovsdbapp, as Neutron is one. Works on the northbound database at the addresses given,
prints a line for each step, and goes on when a line comes in: so that the caller can end a server in between."""

import sys
import time

from ovs.db import idl as ovs_idl
from ovsdbapp.backend.ovs_idl import connection, event, idlutils
from ovsdbapp.schema.ovn_northbound import impl_idl


class Created(event.RowEvent):
    """Counts rows that appear, by name."""

    def __init__(self):
        self.names = []
        super().__init__((self.ROW_CREATE,), "Logical_Switch", None)
        self.event_name = "Created"

    def run(self, event, row, old):
        self.names.append(row.name)


class Idl(ovs_idl.Idl):
    """Tells a watcher of every row event."""

    def __init__(self, *args, **kwargs):
        self.created = Created()
        super().__init__(*args, **kwargs)

    def notify(self, event, row, updates=None):
        if row._table.name == "Logical_Switch" and event == self.created.ROW_CREATE:
            self.created.run(event, row, None)


def step(text):
    print(text, flush=True)


def pause():
    if not sys.stdin.readline():
        sys.exit("the caller is gone")


def name(idl):
    return idl._session.reconnect.get_name()


def monitor_elsewhere(idl, former):
    """Waits until the connection is one to another member. What is begun before is tried again by ovsdbapp after
    pauses that double, and only then does it read what the member has answered."""
    deadline = time.monotonic() + 60
    while name(idl) == former or not idl._session.is_connected() or idl.state != idl.IDL_S_MONITORING:
        assert time.monotonic() < deadline, f"not connected again: {idl.state}"
        time.sleep(0.01)


def main(remotes):
    helper = idlutils.get_schema_helper(remotes, "OVN_Northbound")
    helper.register_all()
    idl = Idl(remotes, helper, leader_only=False)
    api = impl_idl.OvnNbApiIdlImpl(connection.Connection(idl, timeout=30))
    step("connected")

    with api.transaction(check_error=True) as txn:
        txn.add(api.ls_add("net", may_exist=True, external_ids={"owner": "test"}))
        for number in range(10):
            txn.add(api.lsp_add("net", f"port{number}", addresses=[f"02:00:00:00:00:{number:02x} 10.0.0.{number + 2}"]))
        txn.add(api.pg_add("group"))
        txn.add(api.db_create("Address_Set", name="set", addresses=["10.0.0.2"]))
    ports = api.lsp_list("net").execute(check_error=True)
    assert sorted(port.name for port in ports) == sorted(f"port{n}" for n in range(10)), ports
    uuids = [port.uuid for port in ports if port.name in ("port1", "port2", "port3")]
    api.pg_add_ports("group", uuids).execute(check_error=True)
    api.db_set("Logical_Switch_Port", "port0", ("options", {"requested-chassis": "hv1"})).execute(check_error=True)
    api.db_add("Address_Set", "set", "addresses", "10.0.0.3").execute(check_error=True)
    api.db_remove("Address_Set", "set", "addresses", "10.0.0.2").execute(check_error=True)
    addresses = api.db_get("Address_Set", "set", "addresses").execute(check_error=True)
    assert addresses in ("10.0.0.3", ["10.0.0.3"]), addresses
    assert api.db_get("Logical_Switch_Port", "port0", "options").execute() == {"requested-chassis": "hv1"}
    api.lsp_del("port9", if_exists=True).execute(check_error=True)
    members = api.db_get("Port_Group", "group", "ports").execute(check_error=True)
    assert len(members) == 3, members
    options = api.dhcp_options_add("10.0.0.0/24", server_id="10.0.0.1").execute(check_error=True)
    api.lsp_set_dhcpv4_options("port0", options.uuid).execute(check_error=True)
    api.acl_add("net", "to-lport", 1001, "ip4", "allow-related").execute(check_error=True)
    assert len(api.acl_list("net").execute(check_error=True)) == 1
    try:
        api.ls_add("net").execute(check_error=True)
        sys.exit("a second switch of that name was made")
    except RuntimeError:
        pass
    try:
        api.db_create("Address_Set", name="set").execute(check_error=True)
        sys.exit("a second address set of that name was made")
    except Exception as error:  # ovsdbapp raises what it has
        assert "constraint violation" in str(error), error
    former = name(idl)
    step(f"worked {former}")

    pause()
    monitor_elsewhere(idl, former)
    for number in range(20):
        api.ls_add(f"after{number}").execute(check_error=True)
    names = {switch.name for switch in api.ls_list().execute(check_error=True)}
    assert names == {"net"} | {f"after{number}" for number in range(20)}, names
    # A resumed client is told what it missed; one that starts over sees every row appear again.
    step(f"seen {idl.created.names.count('net')}")


main(sys.argv[1])
